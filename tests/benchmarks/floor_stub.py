"""The least that answers `initialize`: a blocking loop over the standard library, the floor of start-up."""

import json
import sys

while header := sys.stdin.buffer.readline():
    sys.stdin.buffer.readline()
    message = json.loads(sys.stdin.buffer.read(int(header.split(b":")[1])))
    if message.get("method") == "exit":
        break
    if "id" in message:
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"capabilities": {}}}
        body = json.dumps(answer).encode()
        sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        sys.stdout.buffer.flush()
