"""The experiments behind the methods: each from a configuration to a table of results, a page and a figure."""

__all__ = ["figures", "ledger", "pages", "quantization", "quantization_page", "retraining", "settings", "staged"]
