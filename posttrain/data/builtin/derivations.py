"""Chain-of-thought derivations: problems of two or three steps, each step a sentence that says what it works out.

Options: kinds. Unlike word_problems, whose steps are bare equations, a step here names its quantity ("The pens cost 3*4=12."),
so that what is learnt is a way to go on, not only a sum. Answers are whole numbers, read by the math grader. The numbers and the
kind make a problem; names and things vary.
"""

from __future__ import annotations

import random

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet
from posttrain.data.builtin.word_problems import NAMES, THINGS

Made = tuple[str, str, int, tuple[int, ...]]
"""Question, steps, answer, and the numbers that make it this problem."""


def hours(stream: random.Random) -> Made:
    h, m = stream.randint(2, 9), stream.randint(3, 50)
    question = stream.choice(
        ("How many minutes are {} hours and {} minutes?", "A trip takes {} hours and {} minutes. How many minutes is that?")
    )
    return (
        question.format(h, m),
        f"{h} hours have {h}*60={60 * h} minutes. With {m} more, {60 * h}+{m}={60 * h + m}.",
        60 * h + m,
        (h, m),
    )


def weeks(stream: random.Random) -> Made:
    w, d = stream.randint(2, 12), stream.randint(2, 6)
    question = stream.choice(
        ("How many days are {} weeks and {} days?", "A course lasts {} weeks and {} days. How many days is that?")
    )
    return question.format(w, d), f"{w} weeks have {w}*7={7 * w} days. With {d} more, {7 * w}+{d}={7 * w + d}.", 7 * w + d, (w, d)


def receipt(stream: random.Random) -> Made:
    a, b, x, y = stream.randint(2, 9), stream.randint(2, 9), stream.randint(2, 6), stream.randint(2, 6)
    first, second = stream.sample(THINGS, 2)
    question = f"{x} {first} at {a} dollars each and {y} {second} at {b} dollars each: how many dollars in all?"
    steps = f"The {first} cost {x}*{a}={x * a}. The {second} cost {y}*{b}={y * b}. Together, {x * a}+{y * b}={x * a + y * b}."
    return question, steps, x * a + y * b, (x, a, y, b)


def filling(stream: random.Random) -> Made:
    rate, minutes, held = stream.randint(2, 12), stream.randint(3, 12), stream.randint(5, 60)
    question = (
        f"A tank holds {held} liters. A pump adds {rate} liters a minute for {minutes} minutes. How many liters does it hold then?"
    )
    added = rate * minutes
    return (
        question,
        f"The pump adds {rate}*{minutes}={added} liters. The tank had {held}, so {held}+{added}={held + added}.",
        held + added,
        (rate, minutes, held),
    )


def fence(stream: random.Random) -> Made:
    long, wide = sorted((stream.randint(3, 40), stream.randint(2, 30)), reverse=True)
    question = f"A garden is {long} meters long and {wide} meters wide. How many meters of fence go around it?"
    return (
        question,
        f"One long and one short side are {long}+{wide}={long + wide}. Twice that is {long + wide}*2={2 * (long + wide)}.",
        2 * (long + wide),
        (long, wide),
    )


def sequence(stream: random.Random) -> Made:
    start, step = stream.randint(1, 40), stream.randint(2, 12)
    shown = [start + step * at for at in range(4)]
    question = stream.choice(("What comes next: {}?", "Which number follows: {}?")).format(", ".join(map(str, shown)))
    a, b, c, d = shown
    steps = f"The first step is {b}-{a}={step}. The last step is {d}-{c}={step}. So {d}+{step}={d + step}."
    return question, steps, d + step, (start, step)


def ages(stream: random.Random) -> Made:
    age, younger, years = stream.randint(20, 60), stream.randint(2, 15), stream.randint(2, 20)
    older, other = stream.sample(NAMES, 2)
    question = f"{older} is {age} years old. {other} is {younger} years younger. How old is {other} in {years} years?"
    now = age - younger
    return (
        question,
        f"Today {other} is {age}-{younger}={now}. In {years} years, {now}+{years}={now + years}.",
        now + years,
        (age, younger, years),
    )


def mean(stream: random.Random) -> Made:
    middle, spread, tilt = stream.randint(12, 40), stream.randint(1, 6), stream.randint(0, 4)
    numbers = [middle - spread - tilt, middle + 2 * tilt, middle + spread - tilt]
    stream.shuffle(numbers)
    a, b, c = numbers
    question = stream.choice(("What is the mean of {}, {} and {}?", "What is the average of {}, {} and {}?")).format(a, b, c)
    steps = f"The first two make {a}+{b}={a + b}. All three make {a + b}+{c}={a + b + c}. A third of it is {a + b + c}/3={middle}."
    return question, steps, middle, tuple(sorted(numbers))


def discount(stream: random.Random) -> Made:
    percent, parts = stream.choice(((10, 10), (20, 5), (25, 4), (50, 2)))
    price = parts * stream.randint(2, 20)
    thing = stream.choice(("coat", "lamp", "chair", "bag", "clock", "watch"))
    question = f"A {thing} costs {price} dollars. It gets {percent} percent cheaper. What does it cost then?"
    off = price // parts
    steps = f"{percent} percent is one part in {parts}, so {price}/{parts}={off} off. It costs {price}-{off}={price - off}."
    return question, steps, price - off, (percent, price)


def seats(stream: random.Random) -> Made:
    rows, each, taken = stream.randint(4, 15), stream.randint(4, 15), stream.randint(3, 15)
    question = f"A hall has {rows} rows of {each} seats. {taken} seats are taken. How many are free?"
    return (
        question,
        f"The hall has {rows}*{each}={rows * each} seats. {taken} are taken, so {rows * each}-{taken}={rows * each - taken}.",
        rows * each - taken,
        (rows, each, taken),
    )


KINDS = {
    "hours": hours,
    "weeks": weeks,
    "receipt": receipt,
    "filling": filling,
    "fence": fence,
    "sequence": sequence,
    "ages": ages,
    "mean": mean,
    "discount": discount,
    "seats": seats,
}
OPTIONS = {"kinds": Option(tuple(KINDS), tuple(KINDS))}


def problem(stream: random.Random, picked: Picked) -> Problem:
    kind = stream.choice(picked["kinds"])
    question, steps, answer, numbers = KINDS[kind](stream)
    return Problem(f"{kind} {' '.join(map(str, numbers))}", question, str(answer), steps, {"kind": kind})


SET = TaskSet("derivations", "math", OPTIONS, problem)
