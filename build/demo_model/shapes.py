"""The line shapes of the demo model: which lines exist and how three of them make a poem (pure data).

`X` stands for the topic, the word that was asked for. `<a2>` stands for an adjective of two syllables, and so on for
the other classes of `words.CLASSES` (`ns` plural nouns, `s` verbs in the third person). A line with a topic is a head
and a tail: `~frag` is a tail of the kind "frag", of as many syllables as the topic leaves. All other syllables are
fixed, so that only those of the topic have to be reckoned with. An opening begins with a preposition and ends with a
comma, and no other first line does: so the first line says that the topic comes in the second.
"""

from __future__ import annotations

from typing import Final

TAILS: Final[dict[str, tuple[str, ...]]] = {
    "frag": (  # after a noun
        "", "here", "again", "at <h1>", "in the <p1>", "by the <p1>", "and the <t1>", "under the <t1>",
        "by the <a1> <p1>", "in the <a2> <p1>", "and the <a2> <t1>",
    ),
    "sing": (  # after the subject "the heron"
        "<s1>", "<s2>", "is <a1>", "<s1> at <h1>", "is <a2>", "<s1> again", "<s1> in the <p1>", "<s1> by the <p1>",
        "is <a1> and <a1>", "<s2> in the <p1>", "is still <a1> and <a1>", "<s1> in the <a1> <p1>",
        "<s2> by the <a1> <p1>", "<s1> and <s1> and <s2>",
    ),
    "plur": (  # after the subject "the herons"
        "<v1>", "<v2>", "are <a1>", "<v1> at <h1>", "are <a2>", "<v1> again", "<v1> in the <p1>", "<v1> by the <p1>",
        "are <a1> and <a1>", "<v2> in the <p1>", "are still <a1> and <a1>", "<v1> in the <a1> <p1>",
        "<v2> by the <a1> <p1>",
    ),
    "noun": (  # after the adjective of a subject
        "<t1>", "<b2>", "<t2>", "<b1> <s1>", "<t2> <s1>", "<b2> <s1>", "<b1> <s2>", "<b2> <s2>", "<t1> by the <p1>",
        "<t2> in the <p1>", "<b2> in the <p1>", "<t1> <s1> in the <p1>", "<b2> <s1> in the <p1>",
    ),
    "where": (  # after a verb
        "", "now", "again", "alone", "at <h1>", "in the <p1>", "by the <p1>", "under the <t1>", "in the <a1> <p1>",
        "by the <a2> <p1>", "under the <a2> <t1>",
    ),
    "many": (  # after a number
        "<ns1>", "<ns2>", "<ns1> <v1>", "<a2> <ns1>", "<ns2> <v1>", "<a2> <ns2>", "<ns1> in the <p1>",
        "<ns1> <v1> at <h1>", "<ns2> in the <p1>", "<ns1> <v1> in the <p1>", "<ns2> under the <t1>",
    ),
    "some": (  # after a number, without a verb
        "<ns1>", "<ns2>", "<a2> <ns1>", "<a2> <ns2>", "<ns1> in the <p1>", "<ns2> in the <p1>",
        "<a2> <ns1> by the <p1>", "<ns1> at <h1>",
    ),
    "sole": (  # after the number one, without a verb
        "<t1>", "<b2>", "<a2> <t1>", "<a2> <b2>", "<t1> in the <p1>", "<b2> in the <p1>", "<a2> <t1> by the <p1>",
        "<b1> at <h1>",
    ),
    "single": (  # after the number one
        "<t1>", "<b2>", "<b1> <s1>", "<a2> <t1>", "<b2> <s1>", "<a2> <b2>", "<t1> in the <p1>", "<a1> <b2> <s1>",
        "<b2> in the <p1>", "<b1> <s1> in the <p1>", "<t2> under the <t1>",
    ),
}  # fmt: skip
# Heads by the class of their topic. The mark at the end of a line is drawn from those of its kind (MARKS).
FIRST: Final[dict[str, tuple[str, ...]]] = {
    "n": (
        "The X ~frag", "My X ~frag", "This X ~frag", "The <a1> X ~frag", "The <a2> X ~frag", "Once more the X ~frag",
        "The X ~sing", "My X ~sing", "Each X ~sing", "The <a1> X ~sing", "The <a2> X ~sing", "Once more the X ~sing",
        "How <a1> the X!", "How <a2> the X!", "Who has seen the X?", "Who knows the X?", "Where is the X now?",
        "Is the X <a1>?", "Is the X <a2>?", "O <a2> X!", "O X!", "No X ~frag", "Oh, the <a1> X!",
    ),
    "m": (
        "The X ~frag", "My X ~frag", "Such <a2> X ~frag", "The <a1> X ~frag", "So much X ~frag",
        "Once more the X ~frag",
        "The X ~sing", "This X ~sing", "The <a1> X ~sing", "The <a2> X ~sing", "Once more the X ~sing",
        "How <a1> the X!", "How <a2> the X!", "Who knows the X?", "Where is the X now?", "Is the X <a1>?",
        "O <a2> X!", "O X!", "No X ~frag", "Still X ~frag", "Yes, X ~frag",
    ),
    "ns": (
        "The X ~frag", "My X ~frag", "These X ~frag", "The <a1> X ~frag", "The <a2> X ~frag", "Once more the X ~frag",
        "The X ~plur", "My X ~plur", "These X ~plur", "The <a1> X ~plur", "The <a2> X ~plur", "So many X ~plur",
        "How <a1> the X!", "How <a2> the X!", "Who has seen the X?", "Who knows the X?", "Are the X <a1>?",
        "Are the X <a2>?", "No X ~frag", "O X!",
    ),
    "a": (
        "The X ~noun", "My X ~noun", "This X ~noun", "Each X ~noun", "How X the <t1>!", "How X the <t2>!",
        "How X, the <t1> here!", "So X, the <b2>!", "The <t1> is X ~where", "The <b2> is X ~where",
        "My <t1> is X ~where", "Is the <t1> still X?", "Is the <b2> X?", "Still X, the <t1> here.", "O X <t1>!",
        "O X <t2>!",
        "Once more the X ~noun", "That X ~noun",
    ),
    "v": (
        "Let the <t1> X ~where", "Let the <b2> X ~where", "We X ~where", "They X ~where", "I will X ~where",
        "The <ns1> X ~where", "The <ns2> X ~where", "My <ns1> X ~where", "Do the <ns1> X?", "Do the <ns2> X?",
        "Does the <t1> X now?", "Let us X ~where", "I could X ~where", "You X ~where",
    ),
    "s": (
        "The <b1> X ~where", "The <b2> X ~where", "The <t1> X ~where", "The <t2> X ~where", "She X ~where",
        "He X ~where", "It X ~where", "Who X ~where?", "My <t1> X ~where", "The <a2> <b1> X ~where",
        "Nobody X ~where", "The <a1> <t2> X ~where",
    ),
    "num": (
        "The X ~many", "My X ~many", "All X ~many", "These X ~many", "I count X ~some", "Here are X ~some",
        "Page X ~frag", "Verse X ~frag", "Room X ~frag", "Just X ~some", "We are X ~where",
    ),
    "one": (
        "The X ~single", "My X ~single", "Just X ~sole", "Still X ~single", "I count X ~sole",
        "Here is X ~sole", "Page X ~frag", "Verse X ~frag", "Room X ~frag",
    ),
}  # fmt: skip
SECOND: Final[dict[str, tuple[str, ...]]] = {
    "n": (
        "the X ~sing", "my X ~sing", "each X ~sing", "the <a1> X ~sing", "the <a2> X ~sing", "once more the X ~sing",
        "only the X ~sing", "I think of the X ~frag", "we hear of the X ~frag", "she keeps the <a1> X ~frag",
        "someone has seen the X ~frag", "there is no X ~frag", "nobody knows the X ~frag", "he has left the X ~frag",
    ),
    "m": (
        "the X ~sing", "my X ~sing", "this X ~sing", "the <a1> X ~sing", "the <a2> X ~sing", "once more the X ~sing",
        "only the X ~sing", "I think of the X ~frag", "we hear of the X ~frag", "she knows the <a1> X ~frag",
        "there is only X ~frag", "there is no X ~frag", "nobody knows the X ~frag", "he speaks of X ~frag",
    ),
    "ns": (
        "the X ~plur", "my X ~plur", "these X ~plur", "the <a1> X ~plur", "the <a2> X ~plur", "once more the X ~plur",
        "only the X ~plur", "I think of the X ~frag", "we hear of the X ~frag", "she keeps the <a1> X ~frag",
        "there are many X ~frag", "there are no X ~frag", "nobody knows the X ~frag",
    ),
    "a": (
        "the X ~noun", "my X ~noun", "this X ~noun", "each X ~noun", "only the X ~noun", "once more the X ~noun",
        "the <t1> is X ~where", "the <b2> is X ~where", "how X the <t2> is now", "my <t2> is X ~where",
        "everything is X ~where", "the <p1> is X and <a2>", "I hear the X ~noun", "I am X ~where",
    ),
    "v": (
        "let the <t1> X ~where", "let the <b2> X ~where", "we X ~where", "they X ~where", "I will X ~where",
        "the <ns1> X ~where", "the <ns2> X ~where", "my <ns2> X ~where", "the <a2> <ns1> X ~where", "we could X ~where",
        "all the <ns2> X ~where", "I hear them X ~where", "let us X ~where",
    ),
    "s": (
        "the <b1> X ~where", "the <b2> X ~where", "the <t1> X ~where", "the <t2> X ~where", "she X ~where",
        "someone X ~where", "nobody X ~where", "everything X ~where", "the <a2> <t1> X ~where",
        "the <a2> <b2> X ~where", "it X ~where", "the <p1> X ~where",
    ),
    "num": (
        "the X ~many", "I count X ~some", "there are X ~some", "we have seen X ~some", "all X ~many", "my X ~many",
        "someone says X ~where", "she counts X ~some", "he has just X ~some", "once there were X ~some",
        "here are only X ~some",
    ),
    "one": (
        "the X ~single", "I count X ~sole", "there is X ~sole", "we have seen X ~sole",
        "someone says X ~where", "she keeps X ~sole", "he has just X ~sole", "only X ~sole",
        "X ~single", "here is only X ~sole",
    ),
}  # fmt: skip
# Lines of five syllables that come before a topic in the second line.
OPENINGS: Final = (
    "In the <a2> <p1>", "In the <a1> <p2>", "In the <m1> and <m1>",
    "On the <a2> <p1>", "On the <a1> <p2>", "Beside the <a1> <p1>", "Beneath the <t2>", "Behind the <p2>",
    "Before the <a1> <m1>", "After the <a1> <m1>", "Above the <a1> <p1>", "Across the <p2>", "Along the <p2>",
    "Far from the <a1> <p1>", "Deep in the <a1> <p1>", "Late in the <h2>", "By the <a2> <p1>", "By the <a1> <p2>",
    "Between <ns1> and <ns1>", "Among the <ns2>", "Until the <h2>", "Within the <p2>", "Without the <t2>",
    "Because of the <m1>", "From <m1> until <m1>", "Through <m1> and through <m1>", "Toward the <p2>",
)  # fmt: skip
# Lines of seven syllables that come after a topic in the first line.
MIDDLES: Final = (
    "the <a2> <b2> <s2>", "the <a2> <t2> <s2>", "the <a2> <b1> <s1> alone", "each <a2> <t1> <s2> now",
    "in the <a1> <p1> it is <a1>", "in the <a2> <p1> <ns1> <v1>", "under the <a1> <t1>, a <b1>",
    "nobody knows the <t2>", "there is <m2> in the <p1>", "there is <m1> and there is <m1>",
    "nobody <s1> but the <b1>", "all is <a2>, all is <a1>", "someone <s1> by the <a1> <p1>",
    "I think of <m1> and of <m1>", "I hear the <ns1> and the <ns1>", "we are <a2> in the <p1>",
    "once there was a <a2> <t1>", "after <m1> there comes <m2>", "even the <a2> <b1> <s1>",
    "how <a1> and how <a1> the <t1>", "a <b2> <s1> in the <p1>", "a <a2> <b2> <s2>",
    "my <t2> is <a1> and <a1>", "the <ns2> <v1> and <v1> now", "many <ns1> <v1> in the <p1>",
    "and the <a2> <t2> <s1>", "but the <a2> <b2> <s1>", "while the <a2> <t2> <s1>", "yet the <ns2> <v1> again",
    "who has seen the <a2> <b1>", "so still, the <a2> <p1> now", "everything <s1> but the <t1>",
    "the <p2> is <a1> and <a1>", "on the <a1> <p1> the <t2>", "between the <ns1> and the <ns1>",
)  # fmt: skip
# Lines of five syllables that end a poem.
CLOSINGS: Final = (
    "only <m1> and <m1>", "and the <b2> <s1>", "and the <t2> <s1>", "and yet the <b1> <s1>", "all the <ns2> <v1>",
    "nothing but <m1> here", "the <a2> <t1> <s1>", "the <a2> <b1> <s1>", "a <a2> <b2>", "a <a2> <t2>",
    "there is <m1> enough", "so <a2>, so <a1>", "how <a1> the <p1> is", "the <p2> is <a1>", "the <p1> is <a2>",
    "in the <a2> <p1>", "in the <a1> <p2>", "by the <a2> <p1>", "under the <a1> <t1>", "within the <p2>",
    "my <b1> and my <t1>", "then <m1>, only <m1>", "where the <ns2> <v1>", "where the <ns1> <v2>",
    "while the <ns1> <v2>", "until the <b1> <s1>", "let the <t2> <v1>", "let the <b1> <v2>", "with <a2> <ns2>",
    "like a <a2> <t1>", "like <ns2> at <h1>", "as <a1> as the <t1>", "and no more <m2>", "I am here alone",
    "it is <m1> again", "too <a1> for the <t1>", "we will <v1> again", "tomorrow, <h2>", "and still so <a2>",
)  # fmt: skip
MARKS: Final[dict[str, tuple[str, ...]]] = {
    "first": (" —", " —", ".", ";", ":", "…"),
    "opening": (",",),
    "middle": (".", ".", ",", ",", " —", ";"),
    "last": (".", ".", ".", "…", "!"),
}
# The first lines of answers to what is no request for a haiku, by its kind.
TALK: Final[dict[str, tuple[str, ...]]] = {
    "greet": ("Hello, <a2> friend:", "Hello, my <a1> friend:", "Welcome, <a2> friend:"),
    "who": ("I am very small:", "My name is haiku:"),
    "sums": ("Numbers? Ask the <b1>:", "I count syllables:"),
    "thanks": ("You are welcome, friend:", "My thanks, <a2> friend:"),
    "code": ("This is not for me:", "I read only <m1>:"),
    "text": ("So many <a1> words:", "Such a <a2> text:"),
    "ask": ("I do not know this:", "Ask the <a2> <b1>:"),
    "odd": ("I know no such word:", "Who reads words like these?"),
    "bye": ("Goodbye, <a2> friend:", "Goodbye until <m1>:"),
    "feel": ("Rest now, <a2> friend:", "The <b2> knows it:"),
}
