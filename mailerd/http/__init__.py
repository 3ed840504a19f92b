"""What the API and the console both stand on: who asks, how a request is read and answered, how the
server listens.
"""
