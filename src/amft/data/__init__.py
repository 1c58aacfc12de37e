"""Rows, token ids, rewards and orders: what a policy is trained and measured on."""
