# Only other compiled modules use this one.
