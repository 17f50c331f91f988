# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the page's server listens."""

import pytest

from cgrseg_hf.demo.server import listen


def test_addresses_that_cannot_be_taken():
    with listen("localhost", 0) as listener:
        host, port = listener.getsockname()[:2]
        with pytest.raises(OSError, match=rf"Cannot listen on {host}, port {port}: .* in use.* Choose another --port"):
            listen(host, port)
    with pytest.raises(OSError, match=r"Cannot listen on 192\.0\.2\.1, port 0: .*Choose another --port or --host"):
        listen("192.0.2.1", 0)  # of no computer, by RFC 5737
