"""What only asks, for who looks: nothing here locks or writes, and nothing that sends needs it."""
