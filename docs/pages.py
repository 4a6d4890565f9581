"""Pages with parts that commands write: each part stands between two marks."""


def replaced(page: str, mark: str, part: str) -> str:
    """The text of a page with what stands between the marks ``mark: begin`` and ``mark: end`` replaced."""
    start, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found, rest = page.partition(start)
    if not found or end not in rest:
        raise ValueError(f"the page has no marks {start} and {end}")
    return f"{before}{start}\n{part}\n{end}{rest.partition(end)[2]}"
