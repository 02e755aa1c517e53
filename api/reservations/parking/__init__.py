"""Who stands in a bay or at a connector without charging, and what that will cost."""
