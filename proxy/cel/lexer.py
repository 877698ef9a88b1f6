"""Owns the tokens of an expression: one linear pass, so nothing unbalanced or endless reaches the parser.

In: source text. Out: lark tokens. Never: backtracking (every quantifier is possessive), recursion.
"""

import re
from collections.abc import Iterator

from lark import Token

from .errors import CelSyntaxError

MAX_SOURCE_BYTES = 4096
MAX_NESTING = 64

_TOKEN = re.compile(
    r"""
    (?P<space> [\t\n\f\r ]++ | //[^\r\n]*+ )
  | (?P<text> [bB]?+ (?:
        [rR] (?: \"{3} (?> (?: [^"] | "(?!"") )* ) \"{3} | '{3} (?> (?: [^'] | '(?!'') )* ) '{3}
               | "(?!"") [^"\r\n]*+ " | '(?!'') [^'\r\n]*+ ' )
      | \"{3} (?> (?: [^"\\] | \\. | "(?!"") )* ) \"{3} | '{3} (?> (?: [^'\\] | \\. | '(?!'') )* ) '{3}
      | "(?!"") (?> (?: [^"\\\r\n] | \\[^\r\n] )* ) " | '(?!'') (?> (?: [^'\\\r\n] | \\[^\r\n] )* ) ' ) )
  | (?P<float> [0-9]*+ \.[0-9]++ (?: [eE][+-]?+[0-9]++ )?+ | [0-9]++ [eE][+-]?+[0-9]++ )
  | (?P<integer> (?: 0x[0-9a-fA-F]++ | [0-9]++ ) [uU]?+ )
  | (?P<name> [_a-zA-Z][_a-zA-Z0-9]*+ )
  | (?P<escaped> `[a-zA-Z0-9_./\- ]++` )
  | (?P<symbol> && | \|\| | [<>=!]= | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"true": "BOOL_LIT", "false": "BOOL_LIT", "null": "NULL_LIT", "in": "in"}
_RESERVED = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while"),
    }
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
# After one of these a minus sign subtracts; anywhere else it belongs to the number behind it.
_ENDS_OPERAND = frozenset(
    ("IDENT", "INT_LIT", "UINT_LIT", "FLOAT_LIT", "STRING_LIT", "BYTES_LIT", "BOOL_LIT", "NULL_LIT", ")", "]", "}")
)


def position(source: str, offset: int) -> tuple[int, int]:
    """Return the 1-based line and column of an offset."""
    return source.count("\n", 0, offset) + 1, offset - source.rfind("\n", 0, offset)


def reject(source: str, offset: int, message: str) -> CelSyntaxError:
    """Make the error that points at an offset."""
    return CelSyntaxError(message, *position(source, offset))


def tokenize(source: str) -> list[Token]:
    """Return the tokens; their type is the grammar's terminal name, or the symbol itself for punctuation."""
    tokens: list[Token] = []
    opened: list[Token] = []
    for kind, text, start in _scan(source):
        after = tokens[-1].type if tokens else ""
        token = Token(_type(source, start, kind, text, after), text, start_pos=start, end_pos=start + len(text))
        if text in _PAIRS.values():
            _open(source, opened, token)
        elif text in _PAIRS:
            _close(source, opened, token)
            if after == "," and text != ")":
                tokens.pop()
        elif token.type in ("INT_LIT", "FLOAT_LIT") and after == "-":
            token = _signed(tokens, token)
        tokens.append(token)
    if opened:
        raise reject(source, opened[-1].start_pos or 0, f"'{opened[-1]}' is never closed")
    return tokens


def _scan(source: str) -> Iterator[tuple[str, str, int]]:
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise reject(source, 0, f"the expression is longer than {MAX_SOURCE_BYTES} bytes")
    offset = 0
    while offset < len(source):
        match = _TOKEN.match(source, offset)
        if match is None:
            found = source[offset]
            raise reject(source, offset, "unterminated string" if found in "\"'" else f"unexpected character {found!r}")
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group(), offset
        offset = match.end()


def _type(source: str, start: int, kind: str, text: str, after: str) -> str:
    match kind:
        case "text":
            return "BYTES_LIT" if text[0] in "bB" else "STRING_LIT"
        case "float":
            return "FLOAT_LIT"
        case "integer":
            return "UINT_LIT" if text[-1] in "uU" else "INT_LIT"
        case "name" if text in _RESERVED and after != ".":
            raise reject(source, start, f"'{text}' is a reserved word")
        case "name":
            return _WORDS.get(text, "IDENT")
        case "escaped" if after != ".":
            raise reject(source, start, "a name in backticks may only follow a dot")
        case "escaped":
            return "IDENT"
    return text


def _open(source: str, opened: list[Token], token: Token) -> None:
    opened.append(token)
    if len(opened) > MAX_NESTING:
        raise reject(source, token.start_pos or 0, f"brackets are nested deeper than {MAX_NESTING}")


def _close(source: str, opened: list[Token], token: Token) -> None:
    if not opened or opened.pop() != _PAIRS[token]:
        raise reject(source, token.start_pos or 0, f"'{token}' closes nothing")


def _signed(tokens: list[Token], number: Token) -> Token:
    """Join a number and the minus before it, unless that minus subtracts."""
    if len(tokens) > 1 and tokens[-2].type in _ENDS_OPERAND:
        return number
    minus = tokens.pop()
    return Token(number.type, f"-{number}", start_pos=minus.start_pos, end_pos=number.end_pos)
