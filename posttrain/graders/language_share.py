"""Share of words in the target language: the language consistency reward of DeepSeek-R1 (arXiv:2501.12948), cheaply.

Languages with a script of their own are told by the script; those in Latin letters by stop words, sentence by sentence: the
language with most stop words takes the sentence. Neighbours that are no targets have stop words too, so that Norwegian does not
pass for English nor Ukrainian for Russian. A sentence with none is told by letters that the target does not write, else it
counts for nobody; so do names in Latin letters inside a sentence of another script. Numbers, tags, LaTeX, links, code and
single letters are not words. Text without words scores 1. Passed from a share of 0.8.
Limits: short sentences in plain letters without stop words are not judged; neighbours outside both tables pass for a target that
shares their words; zh is any text in Han characters without kana.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
NEIGHBOURS: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "sv": "och att det som en på är av för med den till inte har de ett om var jag han hon men sig från vi så kan när eller",
        "no": "og i det på er av for med den til ikke har de et om var jeg han hun men seg fra vi så kan når eller som at fordi",
        "da": "og det på er af for med den til ikke har de et om var jeg han hun men sig fra vi så kan når eller som at fordi",
        "pl": "w na z do nie się to jest że jak co po od za przez ale czy tak był była było są dla oraz który jego jej",
        "cs": "na se je že to do ve za jsem jako ale by po tak jsou pro není který být jeho nebo když",
        "fi": "ja on ei se että hän oli ovat mutta kun niin myös tai joka sen mitä minä kuin ole",
        "tr": "ve bir bu için ile de da çok ama gibi daha olan değil ne var mi kadar sonra",
        "ro": "și în de la cu este nu pe un o că din care sunt mai pentru dar fost sau lui după",
        "ca": "i el la de que en els les amb per és un una no del al més com però aquest aquesta són dels va hi ha",
        "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga ke karena ada saya kami mereka adalah",
        "hi-Latn": "hai hain aur main mein mujhe yeh yah woh ki ka ke ko se nahi nahin kya bhi par tha thi hoon raha kar",
        "ru-Latn": "ya ne na eto chto kak gde on ona oni my vy tak no po iz za ego bylo byl est dlya etot eta ochen",
        "ja-Latn": "wa ga wo ni desu masu watashi kore sore wakarimasen imasu ikimasu arimasu kara made mashita ka to",
    }.items()
}
"""Languages that are no targets but are told from those that are."""
IN_SCRIPT: dict[str, dict[str, frozenset[str]]] = {
    target: {code: frozenset(words.split()) for code, words in tables.items()}
    for target, tables in {
        "ru": {
            "ru": "не что он на как это она они мы вы но по из за его её было был для этот эта очень так все уже или если только",
            "uk": "не що він на як це вона вони ми ви але по із за його її було був для цей ця дуже так всі вже або якщо тільки та й",  # noqa: E501 - one language a line
            "bg": "не че той на как това тя те ние вие но по от за негов беше е за този тази много така всички вече или ако само да "  # noqa: E501 - one language a line
            "се са със защото",
            "sr": "не да је на се он она они ми ви али за од са био била или ако само у су то као што",
        },
        "ar": {
            "ar": "في من على إلى أن هذا هذه التي الذي لا ما كان مع عن هو هي كل بعد قد لم",
            "fa": "در از به که این است را با آن برای من تا بود شد یک خود و می",
            "ur": "ہے میں کے کی اور سے کا کو یہ پر نے ہیں کہ نہیں وہ",
        },
        "hi": {
            "hi": "है और में के की को का से यह पर ने हैं कि नहीं वह था थी एक मैं",
            "mr": "आहे आणि मध्ये च्या ची ला चा हे वर ने आहेत की नाही तो होता होती एक मी",
        },
    }.items()
}
"""Languages of one script, by its target: stop words where they differ from the neighbours'."""
LETTERS: dict[str, str] = {
    "en": "éï", "de": "äöüß", "fr": "àâæçéèêëîïôœùûüÿ", "es": "áéíñóúü", "it": "àèéìíîòóùú", "pt": "àáâãçéêíóôõúü", "nl": "äëïöüéèóê",  # noqa: E501 - one language a line
}  # fmt: skip
"""Letters beyond a to z that a language writes."""
SCRIPTS: dict[str, str] = {
    "zh": "一-鿿㐀-䶿", "ja": "぀-ヿ一-鿿", "ko": "가-힯ᄀ-ᇿ", "ru": "Ѐ-ӿ", "ar": "؀-ۿ", "he": "֐-׿", "hi": "ऀ-ॿ", "el": "Ͱ-Ͽ",
}  # fmt: skip
LANGUAGES = (*STOP_WORDS, *SCRIPTS)

_not_words = re.compile(r"```.*?(?:```|\Z)|<[^<>]{1,40}>|https?://\S+|\\[a-zA-Z]+|`[^`]*`|\$[^$\n]*\$", re.S)
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
            written = sum(1 for word in others if re.match(f"[{SCRIPTS[language]}]", word))
            inside += written if most_hits(others, IN_SCRIPT.get(language, {}), language) in ("", language) else 0
        winner = winning_language(latin, language)
        if language in SCRIPTS:
            total += len(latin) if winner or not others else 0  # else names: Google, Python
        elif winner:
            total += len(latin)
            inside += len(latin) if winner == language else 0
        elif 3 * sum(foreign(word, language) for word in latin) >= len(latin) > 0:
            total += len(latin)
    return inside, total


def winning_language(words: list[str], target: str) -> str:
    """The language with most stop words in a sentence, the target on a tie; empty where there are none."""
    return most_hits(words, STOP_WORDS | NEIGHBOURS, target)


def most_hits(words: list[str], tables: Mapping[str, frozenset[str]], target: str) -> str:
    hits = {code: sum(word in stop_words for word in words) for code, stop_words in tables.items()}
    most = max(hits.values(), default=0)
    if most == 0:
        return ""
    return target if hits.get(target) == most else max(hits, key=lambda code: hits[code])


def foreign(word: str, language: str) -> bool:
    """Whether a Latin word has a letter that the language does not write."""
    return any(not letter.isascii() and letter.isalpha() and letter not in LETTERS[language] for letter in word)
