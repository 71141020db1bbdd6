"""`edgellm bench`: what the speed is here, and against which limit."""
