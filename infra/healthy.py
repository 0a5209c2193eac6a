"""Fail with an exit code unless a URL answers: python infra/healthy.py URL"""

import sys
import urllib.request

urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=8)
