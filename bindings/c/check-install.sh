#!/bin/sh
# Installs into a staging directory and builds the quick start against what is there: shared,
# static, and through pkg-config where that exists.
set -eu

make=$1
target=$2
stage=$(cd "$target" && pwd)/stage
rm -rf "$stage"
"$make" --no-print-directory install PREFIX="$stage/usr" DESTDIR=
lib=$stage/usr/lib
cc=${CC:-cc}
program=c_examples/quickstart.c

"$cc" -I"$stage/usr/include" $program -o "$stage/shared" -L"$lib" -lringkv -Wl,-rpath,"$lib"
"$stage/shared"

libs=$(sed -n 's/^Libs.private: //p' "$lib/pkgconfig/ringkv.pc")
# shellcheck disable=SC2086 # several words on purpose
"$cc" -I"$stage/usr/include" $program -o "$stage/static" "$lib/libringkv.a" $libs
"$stage/static"

if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH="$lib/pkgconfig"
    pkg-config --validate ringkv
    # shellcheck disable=SC2046
    "$cc" $program -o "$stage/found" $(pkg-config --cflags --libs ringkv) -Wl,-rpath,"$lib"
    "$stage/found"
fi
echo "install: the quick start runs against the installed files"
