"""JSON-RPC and LSP: the only package that knows pygls, lsprotocol or a client."""
