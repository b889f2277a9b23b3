"""One file for each command of `engram`."""

from audio_engram.commands import (
    calibrate,
    codec,
    compare,
    corpus,
    doctor,
    encode,
    report,
    run,
    settings,
    tables,
    train,
)

COMMANDS = (run, encode, train, report, compare, tables, corpus, codec, settings, calibrate, doctor)
