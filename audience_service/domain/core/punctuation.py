"""Characters that people type for an apostrophe or a hyphen. Places, text operators and postal codes share them."""

APOSTROPHES = "'’‘‛`´′ʼʻʹʽʾʿˈˊˋˀˁˮꞌ՚׳＇"
"""Apostrophes and similar signs, such as the ʻokina of Hawaiʻi. Unicode calls some of them letters."""

DASHES = "-‐‑‒–—―−⁃﹘﹣－"
"""Hyphens, dashes and minus signs."""
