"""Share of words in the target language: the language consistency reward of DeepSeek-R1 (arXiv:2501.12948), cheaply.

Languages with a script of their own are told by the script; those in Latin letters by stop words, sentence by sentence:
the language with most stop words takes the sentence, a sentence with none counts for nobody. Numbers, tags, LaTeX, links
and single letters are not words. Text without words scores 1. Passed from a share of 0.8.
Limits: short sentences without stop words are not judged; languages outside this table that share its words pass as
their neighbour (Norwegian as nothing, Ukrainian as Russian); zh is any text in Han characters without kana.
"""

from __future__ import annotations

import re

from posttrain.core.config import LanguageGrader
from posttrain.core.errors import UserError, did_you_mean
from posttrain.core.types import Grade

PASSED_FROM = 0.8

STOP_WORDS: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to in is that it for was on with as his they be at this from have or by one had not but what all were "
        "when we there can an your which their said if do will each about how up out them then she many some so these "
        "would other into has more her two like him see time could no make than first been its who now people my made "
        "over did down only way find use may are you he answer second add because therefore since next get equals",
        "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat "
        "dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis "
        "mehr durch man sein wurde ich wir antwort also dann weil daher",
        "fr": "le de un être et à il avoir ne je son que se qui ce dans en du elle au pour pas vous par sur faire plus dire me "
        "on mon lui nous comme mais pouvoir avec tout y aller voir bien où sans tu ou leur homme si la les des est une "
        "sont cette donc alors réponse",
        "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus le ya o este sí porque "
        "esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra "
        "otros ese eso respuesta entonces son",
        "it": "di e il la che in un a per è una sono con non si da le lo come più ma del al anche dei gli alla nel della ha i "
        "su o questo se delle dal essere perché mi ci cosa quindi allora risposta",
        "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou "
        "ser quando muito há nos já está eu também só pelo pela até isso resposta então são",
        "nl": "de van een het en in is dat op te zijn met voor niet aan er om ook als dan maar bij of uit nog naar heeft door "
        "over ze wordt ik je hij we dit die deze daarom omdat antwoord",
    }.items()
}
SCRIPTS: dict[str, str] = {
    "zh": "一-鿿㐀-䶿", "ja": "぀-ヿ一-鿿", "ko": "가-힯ᄀ-ᇿ", "ru": "Ѐ-ӿ", "ar": "؀-ۿ", "he": "֐-׿", "hi": "ऀ-ॿ", "el": "Ͱ-Ͽ",
}  # fmt: skip
LANGUAGES = (*STOP_WORDS, *SCRIPTS)

_not_words = re.compile(r"<[^<>]{1,40}>|https?://\S+|\\[a-zA-Z]+|`[^`]*`|\$[^$\n]*\$")
_word = re.compile(r"[぀-ヿ一-鿿㐀-䶿]|[^\W\d_぀-ヿ一-鿿㐀-䶿]{2,}(?:['’][^\W\d_]+)?")
_sentence = re.compile(r"[.!?。!?\n;:]+")
_kana = re.compile("[぀-ヿ]")
_latin = re.compile(r"[A-Za-zÀ-ɏ]")


def check(config: LanguageGrader) -> None:
    if config.language not in LANGUAGES:
        raise UserError(
            f"language is {config.language!r}, which the language grader does not know.",
            fix=did_you_mean(config.language, LANGUAGES),
        )


def grade(config: LanguageGrader, text: str) -> Grade:
    inside, total = words_in(text, config.language)
    share = inside / total if total else 1.0
    explanation = "" if share == 1 else f"{inside} of {total} words in {config.language}"
    return Grade(share, share >= PASSED_FROM, explanation=explanation)


def words_in(text: str, language: str) -> tuple[int, int]:
    """Words of the language, and words that could be judged, without what is no language: tags, LaTeX, links, code."""
    return counts(_not_words.sub(" ", text), language)


def counts(text: str, language: str) -> tuple[int, int]:
    """Words of the target language, and words that could be judged."""
    inside = total = 0
    japanese = bool(_kana.search(text))
    for sentence in _sentence.split(text):
        words = _word.findall(sentence.lower())
        latin = [word for word in words if _latin.match(word)]
        others = [word for word in words if not _latin.match(word)]
        total += len(others)
        if language in SCRIPTS and (language != "ja" or japanese) and not (language == "zh" and japanese):
            inside += sum(1 for word in others if re.match(f"[{SCRIPTS[language]}]", word))
        if language in SCRIPTS:
            total += len(latin)
        elif winner := winning_language(latin, language):
            total += len(latin)
            inside += len(latin) if winner == language else 0
    return inside, total


def winning_language(words: list[str], target: str) -> str:
    """The language with most stop words in a sentence, the target on a tie; empty where there are none."""
    hits = {code: sum(word in stop_words for word in words) for code, stop_words in STOP_WORDS.items()}
    most = max(hits.values())
    if most == 0:
        return ""
    return target if hits[target] == most else max(hits, key=lambda code: hits[code])
