"""Work on letters and words: reverse, count a letter, first and last letters, upper case, sort words.

Options: operations, lengths (letters of the word, or words of the list). Single words are inventions of vowels and consonants,
so that the space is large. Upper case is graded with case (`metadata.case_sensitive`).
"""

from __future__ import annotations

import random

from posttrain.data.builtin.problems import Option, Picked, Problem, TaskSet

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"
WORDS = (
    "apple", "arrow", "autumn", "bread", "bridge", "candle", "castle", "cloud", "copper", "corner", "cotton", "desert",
    "dragon", "eagle", "engine", "feather", "field", "finger", "forest", "garden", "ginger", "glass", "grape", "hammer",
    "harbor", "honey", "island", "jacket", "jungle", "kettle", "kitchen", "ladder", "lemon", "letter", "lion", "magnet",
    "market", "meadow", "mirror", "monkey", "needle", "nest", "ocean", "olive", "orange", "oven", "paper", "pencil", "pepper",
    "planet", "pocket", "potato", "quarter", "queen", "rabbit", "river", "rocket", "saddle", "salt", "school", "shadow",
    "silver", "spoon", "stone", "sugar", "table", "temple", "tiger", "tower", "train", "tunnel", "umbrella", "valley", "velvet",
    "violin", "wagon", "water", "whale", "window", "winter", "yellow", "zebra",
)  # fmt: skip
OPERATIONS = ("reverse", "count_letter", "first_letters", "last_letters", "uppercase", "sort_words")

OPTIONS = {"operations": Option(OPERATIONS, OPERATIONS), "lengths": Option((3, 4, 5, 6), (3, 4, 5))}


def problem(stream: random.Random, picked: Picked) -> Problem:
    operation, length = stream.choice(picked["operations"]), stream.choice(picked["lengths"])
    of_words = operation in ("first_letters", "last_letters", "sort_words")
    source = stream.sample(WORDS, length) if of_words else invented(stream, length)
    question, answer, steps = ASK[operation](stream, source)
    return Problem(
        key=f"{operation} {answer if operation == 'sort_words' else question}",
        question=question,
        answer=answer,
        steps=steps,
        slices={"operation": operation, "length": str(length)},
        metadata={"case_sensitive": True} if operation == "uppercase" else {},
    )


def invented(stream: random.Random, length: int) -> list[str]:
    """Letters of a word, vowels and consonants in turn."""
    start = stream.randrange(2)
    return [stream.choice(VOWELS if (start + at) % 2 else CONSONANTS) for at in range(length)]


def reverse(stream: random.Random, letters: list[str]) -> tuple[str, str, str]:
    word = "".join(letters)
    return f"Write the word '{word}' backwards.", word[::-1], f"Forwards: {' '.join(word)}. Backwards: {' '.join(word[::-1])}."


def count_letter(stream: random.Random, letters: list[str]) -> tuple[str, str, str]:
    """The letter is doubled or more often half the time, so that the answer is not always 1."""
    letter = stream.choice(letters)
    if stream.random() < 0.5:
        letters = [letter if stream.random() < 0.4 else other for other in letters]
    word = "".join(letters)
    places = [str(at + 1) for at, other in enumerate(word) if other == letter]
    if not places:
        word, places = letter + word[1:], ["1"]
    found = f"Letters: {' '.join(word)}. {letter} is at {', '.join(places)}."
    return f"How many times does the letter '{letter}' occur in '{word}'? Give a number.", str(len(places)), found


def first_letters(stream: random.Random, words: list[str]) -> tuple[str, str, str]:
    answer = "".join(word[0] for word in words)
    listed = ", ".join(f"{word} {word[0]}" for word in words)
    return f"Join the first letters of these words: {', '.join(words)}.", answer, f"{listed}."


def last_letters(stream: random.Random, words: list[str]) -> tuple[str, str, str]:
    answer = "".join(word[-1] for word in words)
    listed = ", ".join(f"{word} {word[-1]}" for word in words)
    return f"Join the last letters of these words: {', '.join(words)}.", answer, f"{listed}."


def uppercase(stream: random.Random, letters: list[str]) -> tuple[str, str, str]:
    word = "".join(letters)
    return f"Write the word '{word}' in capital letters.", word.upper(), f"{' '.join(word)} becomes {' '.join(word.upper())}."


def sort_words(stream: random.Random, words: list[str]) -> tuple[str, str, str]:
    ordered = sorted(words)
    question = f"Sort these words by the alphabet: {', '.join(words)}. Separate them with commas."
    return question, ", ".join(ordered), f"First letters in order: {' '.join(word[0] for word in ordered)}."


ASK = {
    "reverse": reverse,
    "count_letter": count_letter,
    "first_letters": first_letters,
    "last_letters": last_letters,
    "uppercase": uppercase,
    "sort_words": sort_words,
}

SET = TaskSet("strings", "lookup", OPTIONS, problem, ("think_answer", "answer_only"))  # its grader reads no boxes
