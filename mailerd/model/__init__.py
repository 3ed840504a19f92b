"""What mailerd shows: one model for each noun, which is read from its row and answered as JSON by
every surface.
"""
