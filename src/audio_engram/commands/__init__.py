"""One file for each command of `engram`."""

from audio_engram.commands import codec, doctor, encode, report, run, train

COMMANDS = (run, encode, train, report, codec, doctor)
