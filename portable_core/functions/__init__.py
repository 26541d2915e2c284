"""Serve a node as a Cloud Function: the source file of functions-framework."""
