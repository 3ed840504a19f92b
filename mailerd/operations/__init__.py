"""What a caller can do or see, one function each: API, console and commands call them, and decide
nothing themselves.

A function asks first whether its caller may (`operation`), changes by the store, which records the
act in the log of actions, and tells the log once, with the surface by which it came.
"""
