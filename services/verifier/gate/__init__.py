"""May anybody ask, and what is learnt of it: the one way to Cal.com."""
