"""Where the service is found."""

from sandbox.appstream.responses import AppStreamResponse

url_bases = [r"https?://appstream2?\.(.+)\.amazonaws\.com"]
url_paths = {"{0}/$": AppStreamResponse.dispatch}
