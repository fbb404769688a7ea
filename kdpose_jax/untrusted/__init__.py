"""Readers of what users hand us, none of which runs code from a file or takes more memory than
`bounds` says. Imports only `errors`.
"""
