"""A page that runs an exported network in the browser, and the command that builds it."""
