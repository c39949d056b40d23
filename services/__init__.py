"""The verbs: one package a service, and the pipes between them."""
