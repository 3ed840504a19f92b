"""The pages that show what there is, and change it."""
