#!/bin/sh
# Seven peers, each in a terminal window of its own; the files are those of the working directory.
here=$(cd "$(dirname "$0")" && pwd)
for ids in '2 4 5' '4 5 8' '5 8 9' '8 9 14' '9 14 19' '14 19 2' '19 2 4'; do
    xterm -hold -title "Peer ${ids%% *}" -e "exec '$here/p2p.py' init $ids 30" &
done
