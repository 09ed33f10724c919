"""The built-in demo language model: word lists, generated text, training, export and evaluation."""
