"""Node schemas: each file is one stage; no maths here. Nothing of the host is imported before its version is known to
do.
"""
