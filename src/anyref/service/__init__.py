"""Videos over HTTP: a durable queue, workers that stay warm, an API that OpenAI's client speaks.

    client -> app (routes, guard) -> queue (a database) <- worker, one process per device
                                  \\-> store (a folder or URL) <-/

Any of these processes may be killed at any moment: what was accepted is in the database, what was
made is in the store, and one transaction joins them.
"""
