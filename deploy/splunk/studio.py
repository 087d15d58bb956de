#!/usr/bin/env python3
"""Makes the dashboard in Dashboard Studio from the one in Simple XML, which is the one to change.

    deploy/splunk/studio.py           writes auditwatch_studio.xml
"""

import json
import pathlib
from xml.etree import ElementTree

VIEWS = pathlib.Path(__file__).resolve().parent / "TA-auditwatch/default/data/ui/views"
SOURCE, TARGET = VIEWS / "auditwatch.xml", VIEWS / "auditwatch_studio.xml"
WIDTH, HEIGHTS = 1440, {"single": 130, "table": 360, "chart": 300, "map": 400}
# Until a finding is selected, the panels about it are there and empty.
NOTHING_SELECTED = "select a finding"


def search(element, name):
    found = element.find("search")
    options = {
        "query": found.findtext("query"),
        "queryParameters": {"earliest": found.findtext("earliest"), "latest": found.findtext("latest")},
    }
    return {"type": "ds.search", "name": name, "options": options}


def handlers(element):
    """What a click does."""
    drilldown = element.find("drilldown")
    if drilldown is None:
        return []
    link = drilldown.findtext("link")
    if link is not None:
        url = link.replace("$row.requests|u$", "$row.requests.value|u$")
        return [{"type": "drilldown.customUrl", "options": {"url": url, "newTab": True}}]
    tokens = [
        {"token": one.get("token").removeprefix("form."), "key": f"{one.text.strip('$')}.value"}
        for one in drilldown.iter("set")
    ]
    return [{"type": "drilldown.setToken", "options": {"tokens": tokens}}]


def visualization(element, name):
    options, kind = {}, f"splunk.{element.tag}"
    if element.tag == "single":
        kind = "splunk.singlevalue"
    elif element.tag == "table":
        count = element.findtext("option[@name='count']")
        options = {"count": int(count)} if count else {}
    elif element.tag == "chart":
        kind, options = "splunk.column", {"stackMode": "stacked"}
    elif element.tag == "map":
        layer = {"type": "bubble", "latitude": "> primary | seriesByName('latitude')"}
        layer |= {"longitude": "> primary | seriesByName('longitude')"}
        layer |= {"bubbleSize": "> primary | frameWithoutSeriesNames('latitude', 'longitude', '_geo_bounds_east', "
                                "'_geo_bounds_north', '_geo_bounds_south', '_geo_bounds_west')"}  # fmt: skip
        options = {"layers": [layer]}
    made = {"type": kind, "title": element.findtext("title"), "dataSources": {"primary": name}, "options": options}
    if events := handlers(element):
        made["eventHandlers"] = events
    return made


def inputs(root, sources):
    made = {}
    for element in root.iter("input"):
        token, kind = element.get("token"), element.get("type")
        options = {"token": token}
        if kind == "time":
            earliest, latest = (element.findtext(f"default/{end}") for end in ("earliest", "latest"))
            options["defaultValue"] = f"{earliest},{latest}"
        else:
            options["defaultValue"] = element.findtext("default")
        one = {"type": f"input.{'timerange' if kind == 'time' else kind}", "title": element.findtext("label")}
        if kind == "dropdown":
            items = [{"label": choice.text, "value": choice.get("value")} for choice in element.iter("choice")]
            options["items"] = items
            if element.find("search") is not None:
                sources["ds_clusters"] = search(element, "clusters")
                one["dataSources"] = {"primary": "ds_clusters"}
                field = element.findtext("fieldForValue")
                options["items"] = ">frame(label, value) | prepend(formattedStatics) | objects()"
                one["context"] = {
                    "formattedConfig": {"number": {"prefix": ""}},
                    "formattedStatics": ">statics | formatByType(formattedConfig)",
                    "statics": items,
                    "label": f'>primary | seriesByName("{field}") | renameSeries("label") | formatByType(formattedConfig)',
                    "value": f'>primary | seriesByName("{field}") | renameSeries("value") | formatByType(formattedConfig)',
                }
        one["options"] = options
        made[f"input_{token}"] = one
    return made


def definition(root):
    sources, shown, structure, top = {}, {}, [], 0
    asked = inputs(root, sources)
    for row in root.iter("row"):
        elements = [one for one in row.iter() if one.tag in HEIGHTS]
        height, width = max(HEIGHTS[one.tag] for one in elements), WIDTH // len(elements)
        for place, element in enumerate(elements):
            number = len(shown) + 1
            sources[f"ds_{number}"] = search(element, f"search {number}")
            shown[f"viz_{number}"] = visualization(element, f"ds_{number}")
            position = {"x": place * width, "y": top, "w": width, "h": height}
            structure.append({"item": f"viz_{number}", "type": "block", "position": position})
        top += height
    return {
        "title": f"{root.findtext('label')} (Studio)",
        "description": root.findtext("description"),
        "defaults": {"tokens": {"default": {"finding": {"value": NOTHING_SELECTED}}}},
        "inputs": asked,
        "dataSources": sources,
        "visualizations": shown,
        "layout": {"type": "grid", "options": {"width": WIDTH}, "globalInputs": list(asked), "structure": structure},
    }


def page():
    made = definition(ElementTree.parse(SOURCE).getroot())
    text = json.dumps(made, indent=1, ensure_ascii=False)
    return (
        '<dashboard version="2" theme="light">\n'
        f"  <label>{made['title']}</label>\n"
        f"  <description>{made['description']}</description>\n"
        f"  <definition><![CDATA[\n{text}\n  ]]></definition>\n"
        "</dashboard>\n"
    )


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
