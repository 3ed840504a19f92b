"""What typer says of a command that was typed wrongly; `mailerd.cli.failure` reads it in Chinese."""

from typing import Final

TEXTS: Final = {
    "Missing argument {name}.": "缺少参数 {name}。",
    "Missing option {name}.": "缺少选项 {name}。",
    "Missing command.": "缺少命令。",
    "Try `{command} {option}` for help.": "运行 `{command} {option}` 查看帮助。",
    "No such command {name}.": "没有命令 {name}。",
    "No such command {name}. Did you mean {other}?": "没有命令 {name}。是否想用 {other}？",
    "No such option: {name}": "没有选项 {name:name}",
    "No such option: {name} (Possible options: {others})": "没有选项 {name:name}（相近的选项：{others}）",
    "Option {name} requires an argument.": "选项 {name} 需要一个值。",
    "Option {name} requires {number} arguments.": "选项 {name} 需要 {number} 个值。",
    "Option {name} does not take a value.": "选项 {name} 不带值。",
    "Got unexpected extra argument(s) ({arguments})": "多余的参数：{arguments}",
    "Invalid value: {why}": "值无效：{why:text}",
    "Invalid value for {name}: {why}": "{name} 的值无效：{why:text}",
    "Input should be a valid integer, unable to parse string as an integer": "应为整数",
    "Input should be a valid number, unable to parse string as a number": "应为数字",
    "Input should be greater than or equal to {least}": "不能小于 {least}",
    "Input should be less than or equal to {most}": "不能大于 {most}",
    "Value error, {value} is not one of {others}.": "{value} 不在可选值之中：{others}。",
    "file {path} does not exist.": "文件 {path} 不存在。",
    "dir {path} does not exist.": "文件夹 {path} 不存在。",
    "Aborted.": "已中止。",
}
