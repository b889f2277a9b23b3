"""One file for each command of `engram`."""

from audio_engram.commands import codec, corpus, doctor, encode, report, run, train

COMMANDS = (run, encode, train, report, corpus, codec, doctor)
