#!/usr/bin/env python3
"""Draws a launch: the ladder of its steps, who does them, and the namespaces that come of it.

    stockade explain --json BUNDLE | python3 docs/ladder.py > ladder.svg

Everything in the picture comes from the plan. docs/ladder.svg is examples/bundles/silent under the policy strict; a test
(tests/plan.rs) draws it again and compares.
"""

import json
import re
import sys
from html import escape

WIDTH, ROW, LEFT, RIGHT, COLUMN = 1080, 22, 24, 560, 496
TINTS = {"parent": "#e8eef7", "child": "#e9f5ec"}
INK, FAINT, LINE = "#1f2933", "#5f6c7b", "#8795a8"


def text(x, y, words, size=11, ink=INK, weight="normal", anchor="start", mono=False):
    face = "ui-monospace,Menlo,Consolas,monospace" if mono else "system-ui,Segoe UI,Helvetica,Arial,sans-serif"
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{ink}" font-weight="{weight}" text-anchor="{anchor}" '
        f'font-family="{face}">{escape(words)}</text>'
    )


def box(x, y, width, height, fill, stroke="none", title=None):
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="{stroke}">{inside}</rect>'


def arrow(x1, y1, x2, y2):
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="1.4" marker-end="url(#end)"/>'


def short(words, room):
    return words if len(words) <= room else words[: room - 1].rstrip(" ,") + "…"


def ladder(plan, y):
    """The steps from top to bottom, the runtime's left and the container's right."""
    out, at, chapter = [], {}, None
    out.append(text(LEFT, y, "the runtime, on the host", 13, weight="bold"))
    out.append(text(RIGHT, y, "the container's process", 13, weight="bold"))
    y += 12
    for step in plan:
        x = LEFT if step["actor"] == "parent" else RIGHT
        if step["chapter"] != chapter:
            chapter = step["chapter"]
            y += 14
            out.append(text(x, y, chapter.split(": ", 1)[-1].split("process, ", 1)[-1], 10, FAINT))
            y += 6
        why = step["why"] + (f" (against: {step['against']})" if step["against"] else "")
        out.append(box(x, y, COLUMN, ROW - 3, TINTS[step["actor"]], title=why))
        out.append(text(x + 24, y + 14, str(step["number"]), 10, FAINT, anchor="end"))
        out.append(text(x + 32, y + 14, step["name"], 11, weight="bold"))
        out.append(text(x + 170, y + 14, short(re.sub(r": \d+ instructions", "", step["subject"]), 52), 10, mono=True))
        at.setdefault(step["name"], y + ROW / 2 - 1)
        y += ROW
    for sent, got in [("clone3", "die with parent"), ("go", "wait for go")]:
        if sent in at and got in at:
            out.append(arrow(LEFT + COLUMN, at[sent], RIGHT - 3, at[got]))
    answers = [("ready", "state.json and pid file are written", True), ("gate", "start, or the go-ahead of run", False)]
    for name, words, back in answers:
        if name in at:
            far, near = RIGHT - 3, LEFT + COLUMN - 40
            out.append(arrow(far, at[name], near, at[name]) if back else arrow(near, at[name], far, at[name]))
            out.append(text(near - 8, at[name] + 4, words, 10, FAINT, anchor="end"))
    return out, y


def holds(plan):
    """What each new namespace has, in the plan's own words."""

    def of(name):
        return [s["subject"] for s in plan if s["name"] == name]

    def first(name):
        return (of(name) or ["as the host has it"])[0]

    return {
        "mount": f"{len(of('mount')) + len(of('bind'))} mounts on its root; the old one is unmounted",
        "pid": f"PID 1 is {first('exec')}",
        "network": first("loopback") + ", no other interface" if of("loopback") else "interfaces of its own",
        "ipc": "no segment, no queue",
        "uts": "host name " + first("hostname"),
        "cgroup": re.split(",| with", first("cgroup"))[0] + " is its /",
        "time": "clocks that can have offsets",
    }


def namespaces(plan, y):
    """Boxes in boxes: what the host keeps, and what the process has of its own."""
    cloned = next((s["step"]["namespaces"] for s in plan if s["name"] == "clone3"), [])
    others = [n for n in cloned if n != "user"]
    height = 84 + 26 * ((len(others) + 1) // 2)
    out = [box(LEFT, y, WIDTH - 2 * LEFT, height, "#f6f7f9", LINE)]
    out.append(text(LEFT + 12, y + 20, "the host: its namespaces, where the runtime stays", 12, weight="bold"))
    inner = y + 32
    maps = next((s["subject"] for s in plan if s["name"] == "id maps"), "")
    out.append(box(LEFT + 14, inner, WIDTH - 2 * LEFT - 28, height - 44, TINTS["child"], LINE))
    if "user" in cloned:
        out.append(text(LEFT + 26, inner + 20, "a user namespace, which owns the others: " + maps, 12, weight="bold"))
    words = holds(plan)
    for i, name in enumerate(others):
        x, top = LEFT + 28 + (i % 2) * 494, inner + 32 + (i // 2) * 26
        out.append(box(x, top, 484, 22, "#ffffff", LINE))
        out.append(text(x + 10, top + 15, name, 11, weight="bold"))
        out.append(text(x + 80, top + 15, short(words.get(name, ""), 62), 10, mono=True))
    return out, y + height


def draw(explained):
    plan = explained["plan"]
    out = [text(LEFT, 30, f"A launch under the policy {explained['policy']}: {len(plan)} steps", 17, weight="bold")]
    steps, y = ladder(plan, 58)
    out += steps
    out.append(text(LEFT, y + 34, "What comes of it: who is in which namespace", 17, weight="bold"))
    boxes, y = namespaces(plan, y + 48)
    out += boxes
    height = int(y + 24)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
            '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *out,
            "</svg>\n",
        ]
    )


sys.stdout.write(draw(json.load(sys.stdin)))
