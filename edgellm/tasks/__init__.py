"""What people ask for, as pure conversations: a task yields prompts, is sent replies, and returns a checked result.

No model, no file, no clock: a test sends the replies by hand.
"""
