"""`python -m codesign` is `codesign`."""

from codesign.cli import main

raise SystemExit(main())
