#!/usr/bin/env python3
"""As much of curl as the pages use, for machines that have none."""

import sys
import time
import urllib.error
import urllib.request

url, data, headers, to, show, retries = None, None, {}, None, "", 0
args = sys.argv[1:]
while args:
    flag = args.pop(0)
    if flag == "-d":
        data = args.pop(0).encode()
    elif flag == "-o":
        to = args.pop(0)
    elif flag == "-w":
        show = args.pop(0)
    elif flag == "-H":
        name, value = args.pop(0).split(":", 1)
        headers[name] = value.strip()
    elif flag == "--retry":
        retries = int(args.pop(0))
    elif flag == "--retry-delay":
        args.pop(0)
    elif flag in ("-s", "--retry-connrefused"):
        pass
    elif flag.startswith("-"):
        sys.exit("this curl does not know " + flag)
    else:
        url = "http://" + flag

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while True:
    try:
        answer = opener.open(urllib.request.Request(url, data, headers))
        break
    except urllib.error.HTTPError as error:
        answer = error
        break
    except urllib.error.URLError:
        if retries == 0:
            sys.exit(7)
        retries -= 1
        time.sleep(1)

body = answer.read()
if to is None:
    sys.stdout.buffer.write(body)
    sys.stdout.flush()
elif to != "/dev/null":
    with open(to, "wb") as file:
        file.write(body)
sys.stdout.write(show.replace("%{http_code}", str(answer.getcode())).replace("\\n", "\n"))
