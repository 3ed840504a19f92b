"""The sandbox stands in for everything outside mailerd, on loopback only: nothing leaves this
machine.
"""
