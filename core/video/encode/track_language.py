"""Languages of tracks, as a container stores them."""

from __future__ import annotations

# QuickTime has a number for a language. FFmpeg finds it by one of the two codes that ISO 639-2 has for these languages,
# mostly the bibliographic one, and writes no language for the other code.
_QUICKTIME_CODES = {
    "bod": "tib",
    "cym": "wel",
    "deu": "ger",
    "ell": "gre",
    "eus": "baq",
    "fas": "per",
    "hye": "arm",
    "isl": "ice",
    "kat": "geo",
    "mkd": "mac",
    "msa": "may",
    "mya": "bur",
    "nld": "dut",
    "sqi": "alb",
    "zho": "chi",
    # These by the terminologic one.
    "cze": "ces",
    "fre": "fra",
    "rum": "ron",
    "slo": "slk",
}


def stored_language(code: str, muxer: str) -> str:
    """Return the ISO 639-2 code of the same language that the muxer stores."""
    return _QUICKTIME_CODES.get(code, code) if muxer == "mov" else code
