"""Exchanges MIDI files between fathom and mido in both directions. Run with the path of the program midi_lines, and
optionally with paths of more files to compare.

Needs the package mido; without it the test is skipped (exit status 77).
"""

import pathlib
import random
import subprocess
import sys
import tempfile

try:
    import mido
except ImportError as missing:
    print(f"skipped: {missing}; pip install mido")
    sys.exit(77)

PROGRAM = sys.argv[1]


def midi_lines(*arguments, text=None):
    done = subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, f"midi_lines {arguments}: {done.stderr}"
    return [tuple(map(float, line.split())) for line in done.stdout.splitlines()]


def notes_by_mido(path, sustain, percussion):
    """The expected output of midi_lines: (onset, duration, pitch, velocity, channel, program), of formats 0 and 1."""
    file = mido.MidiFile(path)
    events, ends = [], []
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, number, message))
            if message.type == "end_of_track":
                break
        else:
            events.append((tick, number, mido.MetaMessage("end_of_track")))
    events.sort(key=lambda event: event[0])
    notes, down, held = [], {}, {}  # keys: (channel, track, pitch), to the note
    pedal, program = [False] * 16, [0] * 16
    seconds, last, tempo = 0.0, 0, 500000

    def stop(sounding, chosen):
        for key in [key for key in sounding if chosen(key)]:
            notes[sounding.pop(key)][1] = seconds

    def release(chosen):
        for key in [key for key in down if chosen(key)]:
            if pedal[key[0]]:
                held[key] = down.pop(key)
            else:
                stop(down, lambda other: other == key)

    for tick, track, message in events:
        seconds += mido.tick2second(tick - last, file.ticks_per_beat, tempo)
        last = tick
        kind = message.type
        if kind == "set_tempo":
            tempo = message.tempo
        elif kind == "end_of_track":
            stop(down, lambda key: key[1] == track)
            stop(held, lambda key: key[1] == track)
        elif kind == "program_change":
            program[message.channel] = message.program
        elif kind == "note_on" and message.velocity > 0:
            if message.channel == 9 and not percussion:
                continue
            key = message.channel, track, message.note
            before = down.get(key, held.get(key))
            stop(down, lambda other: other == key)
            stop(held, lambda other: other == key)
            if before is not None and notes[before][6] == tick:
                notes[before] = None  # struck twice at once
            down[key] = len(notes)
            notes.append([seconds, None, message.note, message.velocity, message.channel, program[message.channel], tick])
        elif kind in ("note_on", "note_off"):
            release(lambda key: key == (message.channel, track, message.note))
        elif kind == "control_change":
            mine = lambda key: key[0] == message.channel
            if message.control == 120:
                stop(down, mine)
                stop(held, mine)
            elif message.control >= 123:
                release(mine)
            elif message.control in (64, 121):
                pedal[message.channel] = sustain and message.control == 64 and message.value >= 64
                if not pedal[message.channel]:
                    stop(held, mine)
    return [(n[0], n[1] - n[0], *n[2:6]) for n in notes if n]


def compare(found, expected, what):
    assert len(found) == len(expected), f"{what}: {len(found)} notes, expected {len(expected)}"
    for i, (a, b) in enumerate(zip(found, expected)):
        # Printed to 9 digits; mido adds up times, and its errors.
        assert abs(a[0] - b[0]) < 2e-6 and abs(a[1] - b[1]) < 2e-6 and a[2:] == b[2:], f"{what}: note {i}: {a}, {b}"


def check(path):
    count = 0
    for sustain in True, False:
        for percussion in True, False:
            options = [*([] if sustain else ["--keys"]), *(["--percussion"] if percussion else [])]
            found = midi_lines("read", path, *options)
            compare(found, notes_by_mido(path, sustain, percussion), f"{path} {options}")
            count = max(count, len(found))
    return count


def random_track(numbers, length):
    track = mido.MidiTrack()
    for _ in range(length):
        channel, time = numbers.choice([0, 1, 9]), numbers.choice([0, 0, 1, 100, 3000])
        pitch = numbers.randrange(60, 66)
        track.append(numbers.choice([
            lambda: mido.Message("note_on", channel=channel, note=pitch, velocity=numbers.randrange(128), time=time),
            lambda: mido.Message("note_on", channel=channel, note=pitch, velocity=numbers.randrange(128), time=time),
            lambda: mido.Message("note_on", channel=channel, note=pitch, velocity=0, time=time),
            lambda: mido.Message("note_off", channel=channel, note=pitch, time=time),
            lambda: mido.Message("control_change", channel=channel, control=numbers.choice([1, 64, 64, 64, 120, 121, 123, 127]),
                                 value=numbers.randrange(128), time=time),
            lambda: mido.Message("program_change", channel=channel, program=numbers.randrange(128), time=time),
            lambda: mido.Message("pitchwheel", channel=channel, pitch=numbers.randrange(-8192, 8192), time=time),
            lambda: mido.Message("aftertouch", channel=channel, value=3, time=time),
            lambda: mido.Message("polytouch", channel=channel, note=pitch, value=3, time=time),
            lambda: mido.Message("sysex", data=[numbers.randrange(128) for _ in range(numbers.randrange(200))], time=time),
            lambda: mido.Message("songpos", pos=numbers.randrange(16384), time=time),
            lambda: mido.Message("song_select", song=numbers.randrange(128), time=time),
            lambda: mido.Message("quarter_frame", frame_type=3, frame_value=5, time=time),
            lambda: mido.MetaMessage("set_tempo", tempo=numbers.randrange(100000, 2000000), time=time),
            lambda: mido.MetaMessage("lyrics", text="la" * numbers.randrange(100), time=time),
            lambda: mido.MetaMessage("time_signature", numerator=3, denominator=8, time=time),
        ])())
    return track


def fathom_reads(folder):
    numbers = random.Random(1)
    for kind in 0, 1:
        for division in 24, 96, 480, 32767:
            file = mido.MidiFile(type=kind, ticks_per_beat=division)
            for _ in range(1 if kind == 0 else 3):
                file.tracks.append(random_track(numbers, 600))
            file.save(folder / "mido.mid")
            assert check(folder / "mido.mid") > 50


def mido_reads(folder):
    numbers = random.Random(2)
    notes = []  # to the millisecond; no key struck again before it is up
    for channel in 0, 3, 9, 15:
        for pitch in 0, 60, 61, 127:
            now = numbers.randrange(1000)
            for _ in range(20):
                duration = numbers.randrange(1, 500)
                notes.append((now / 1000, duration / 1000, pitch, numbers.randrange(1, 128), channel, numbers.randrange(128)))
                now += duration + numbers.choice([0, 1, 200, 20000])
    path = folder / "fathom.mid"
    midi_lines("write", path, text="\n".join(" ".join(map(str, note)) for note in notes))
    file = mido.MidiFile(path)
    assert file.type == 0 and len(file.tracks) == 1 and file.ticks_per_beat == 500
    order = lambda note: (round(note[0] * 1000), note[4], note[2])
    expected = sorted(notes, key=order)
    compare(sorted(notes_by_mido(path, True, True), key=order), expected, "mido")
    compare(sorted(midi_lines("read", path, "--percussion"), key=order), expected, "fathom")
    # Rewritten by mido, it is still the same.
    file.save(folder / "mido.mid")
    compare(midi_lines("read", folder / "mido.mid"), midi_lines("read", path), "mido's copy")


for test in fathom_reads, mido_reads:
    with tempfile.TemporaryDirectory() as name:
        test(pathlib.Path(name))
    print(f"{test.__name__}: passed")
if sys.argv[2:]:
    print(f"{len(sys.argv[2:])} files: {sum(map(check, sys.argv[2:]))} notes, the same")
