"""Everything that mailerd says, one class of events a part; nothing is logged in any other way."""
