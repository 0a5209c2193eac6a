"""True if an address answers, as an exit code: python infra/healthy.py URL"""

import sys
import urllib.request

urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=8)
