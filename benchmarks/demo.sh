#!/usr/bin/env bash
# The main job on data/samples, with the embedded space: index once, then ask in every direction.
set -euo pipefail
cd "$(dirname "$0")/.."
export MMSEARCH_LIBRARY="$PWD/.demo"

run() {
  printf '\n$ mmsearch'
  for word in "$@"; do
    case "$word" in *" "*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
  done
  printf '\n'
  mmsearch "$@"
}

rm -rf "$MMSEARCH_LIBRARY"
run index data/samples --exclude CREDITS.md --model mini
echo; echo "Words find pictures, in English, German, French and Czech"
run query "musicians at a concert" --in image -k 2
run query "un tigre dans la neige" --in image -k 2
echo; echo "Words find sounds, and moments of videos"
run query "a siren" --in audio -k 1
run query "Regen" --in audio --in video -k 2
run query "a beach" --in video -k 1
run query "ambulance crossing the river" --in video -k 1
echo; echo "A sound finds videos, a video finds pictures, a picture finds the moment"
run query data/samples/sounds/rooster.mp3 --in video -k 1
run query data/samples/clips/concert.webm --in image -k 2
run query data/samples/photos/tiger.jpg --in video -k 1 --paths
echo; echo "A picture finds pictures, and notes"
run query data/samples/photos/sheep.jpg --in image -k 3
run query data/samples/photos/rocket.jpg --in text -k 1
echo; echo "Words find notes, and a note finds notes and pictures"
run query "flowers in May" --in text -k 1
run query data/samples/notes/moka_pot.md --in image -k 2
run query data/samples/notes/launch_diary.txt --in image -k 2
echo; echo "Words and pictures together"
run query data/samples/photos/castle.jpg 0.5:night --in image -k 3
echo
run status
