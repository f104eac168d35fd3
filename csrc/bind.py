"""Write the cffi binding of the C core: `bind.py SOURCE_DIR OUTPUT FLAGS`. Run by CMake."""

import hashlib
import sys
from pathlib import Path

import cffi

HEADERS = ("codesign.h", "filters/filters.h")  # the simulator; image filters, with an ABI number of their own
BEGIN, END = "/* cdef: begin */", "/* cdef: end */"


def declarations(header: str) -> str:
    """The part of a header that Python sees."""
    return header.split(BEGIN)[1].split(END)[0]


def source_hash(folder: Path) -> str:
    """SHA-256 over names and contents of every C source, in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.[ch]")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    folder, output, flags = Path(sys.argv[1]), sys.argv[2], " ".join(sys.argv[3].split(";"))
    builder = cffi.FFI()
    for header in HEADERS:
        builder.cdef(declarations((folder / header).read_text()))
    builder.cdef("static char *const CS_SOURCE_SHA256; static char *const CS_COMPILE_FLAGS;")
    builder.set_source(
        "codesign._core",
        "".join(f'#include "{header}"\n' for header in HEADERS) + f'#define CS_SOURCE_SHA256 "{source_hash(folder)}"\n'
        f'#define CS_COMPILE_FLAGS "{flags}"\n',
    )
    builder.emit_c_code(output)


if __name__ == "__main__":
    main()
