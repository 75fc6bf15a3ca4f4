"""The native engine as an OpenAI-compatible chat endpoint: for judges, critics and users' own clients.

    posttrain serve MODEL --port 8000        # http://127.0.0.1:8000/v1

`requests` reads what a client asks, `responses` and `stream` say what was written, `access` decides who may ask, `app` joins
them, and `run` is the process that listens.
"""
