#!/bin/sh
# The program of the what-if page: page.sh OUTPUT. Needs clang and wasm-ld.
set -e
cd "$(dirname "$0")"
exec clang --target=wasm32 -O3 -nostdlib -ffreestanding -std=c11 -ffp-contract=off -Wall -Wextra -Wconversion \
    -Wl,--no-entry -Wl,--strip-all -o "$1" page.c cost.c machine.c rows.c schedule.c search.c
