#!/usr/bin/env python3
"""A small HEC server: accepts everything and prints each event on a separate line.

    demo/hec_sink.py PORT FILE    also appends the events to FILE

It replaces Splunk where there is none. The tests use a stricter one.
"""

import gzip
import http.server
import json
import sys


class Hec(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, code, text):
        body = json.dumps({"text": text, "code": code}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, 17, "HEC is healthy")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if not self.headers.get("Authorization", "").startswith("Splunk "):
            return self.answer(401, 2, "Token is required")
        # Events follow one another, with or without white space between.
        text, at, decoder = body.decode(), 0, json.JSONDecoder()
        events = []
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            event, at = decoder.raw_decode(text, at)
            events.append(event)
        with open(sys.argv[2], "a", encoding="utf-8") as out:
            for event in events:
                line = json.dumps(event)
                print(line, flush=True)
                out.write(line + "\n")
        return self.answer(200, 0, "Success")

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hec).serve_forever()
