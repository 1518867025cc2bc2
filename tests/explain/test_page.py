"""The page in a real browser: it opens, is clicked through, and its sums are the gradients."""

import contextlib
import json
import re
import shutil

import numpy as np
import pytest

import fastbp as fb
from fastbp.explain import example

pytestmark = pytest.mark.once

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run",
         "--window-size=1200,1000"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver (on Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


@contextlib.contextmanager
def opened(browser, explanation, folder):
    """A page, in which nothing may go wrong meanwhile."""
    explanation.save(folder / "page.html")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get((folder / "page.html").as_uri())
    yield Page(browser, explanation)
    assert browser.get_log("browser") == []
    requests = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in requests
            if each["method"] == "Network.requestWillBeSent"]
    # Of the browser itself there may be "chrome".
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "chrome"}


class Page:
    def __init__(self, browser, explanation):
        self.browser, self.explanation = browser, explanation

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def choose(self, select, value):
        self.browser.execute_script(
            "const s = document.querySelector(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change'));", select, str(value))

    def check(self):
        """Compare what is shown of a parameter with Python's; return its name and index."""
        shown, products, rest, printed, computed, says = self.browser.execute_script(
            "const of = (s) => [...document.querySelectorAll('#weight ' + s)]"
            ".map((each) => each.textContent);"
            "return [of('h2 .num'), of('li:not(.sum, .engine, .rest) .product'),"
            "of('.rest .product'), of('#sum'), of('#engine'), of('.equal, .unequal')]")
        name, index = re.fullmatch(r"(.*)\[([\d,]+)\]", shown[0]).groups()
        index = tuple(map(int, index.split(",")))
        gradient = self.explanation.weight(name, *index)
        products, rest = [[_number(each) for each in texts] for texts in (products, rest)]
        expected = [path.product for path in gradient.paths]
        assert np.allclose(products, expected, rtol=1e-5, atol=1e-300), (name, index)
        assert len(rest) == (gradient.n_paths > len(gradient.paths))
        assert printed == computed and says == ["✓ equal"]  # to the printed digits
        engine = self.explanation.parameters[name].gradient[index]
        scale = gradient.magnitude
        assert abs(_number(computed[0]) - engine) <= 1e-5 * abs(engine) + 1e-14 * scale
        assert abs(sum(products) + sum(rest) - engine) <= 1e-5 * scale
        return name, index


def _number(text):
    return float(text.replace("−", "-"))


def test_every_parameter_of_the_example(browser, tmp_path):
    explanation = example()
    with opened(browser, explanation, tmp_path) as page:
        for p, (name, parameter) in enumerate(explanation.parameters.items()):
            page.choose("#parameter", p)
            for index in np.ndindex(parameter.before.shape):
                if len(index) == 2:
                    page.choose("#from", index[0])
                page.choose("#to", index[-1])
                assert page.check() == (name, index)
        assert str(explanation.network) in page.find("h1").text


def exploded():
    """A network whose loss is infinite after the step."""
    net = fb.mlp([3, *[16] * 20, 1], "relu", seed=0)
    return fb.explain(net, [2000.0, 3.0, 1950.0], 250000.0, loss=fb.MeanSquaredError())


def test_an_infinite_loss_is_in_the_page(tmp_path):
    explanation = exploded()
    assert explanation.after == np.inf and "→ inf" in str(explanation)
    explanation.save(tmp_path / "page.html")
    assert '"after":"Infinity"' in (tmp_path / "page.html").read_text("utf-8")


def test_an_infinite_loss_is_shown(browser, tmp_path):
    with opened(browser, exploded(), tmp_path) as page:
        assert "∞" in page.find("#step .loss").text
        assert "not smaller" in page.find("#step").text


def test_the_label_of_a_parameter_that_multiplies_no_input(browser, tmp_path):
    net = fb.Sequential([fb.Embedding(3, 2), fb.Dense(2, 1)], seed=0)
    explanation = fb.explain(net, [1.0], 1.0, loss=fb.MeanSquaredError())
    with opened(browser, explanation, tmp_path) as page:
        for p, parameter in enumerate(explanation.parameters.values()):
            page.choose("#parameter", p)
            if parameter.before.ndim > 1:
                expected = "from input" if parameter.layer == "Dense" else "from index"
                assert page.find("#from-text").text == expected


def test_clicks(browser, tmp_path):
    """On lines of the graph, squares of the map, and by the keyboard."""
    net = fb.mlp([3, 4, 2], "tanh", seed=0)
    explanation = fb.explain(net, [[1.0, 2.0, -1.0], [0.5, 0.0, 1.0]], [0, 1],
                             loss=fb.SoftmaxCrossEntropy())
    with opened(browser, explanation, tmp_path) as page:
        lines = page.all("#graph [data-weight]")
        assert len(lines) == 3 * 4 + 4 * 2
        page.browser.execute_script(
            "document.querySelector('[data-weight=\"2,3,1\"]').dispatchEvent("
            "new MouseEvent('click', {bubbles: true}))")
        assert page.check() == ("2.W", (3, 1))
        page.find('#map [data-index="1,0"]').click()
        assert page.check() == ("2.W", (1, 0))
        keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
        page.browser.switch_to.active_element.send_keys(keys.ARROW_DOWN)
        page.browser.switch_to.active_element.send_keys(keys.ARROW_RIGHT)
        page.browser.switch_to.active_element.send_keys(keys.ENTER)
        assert page.check() == ("2.W", (2, 1))
        page.find("#largest").click()
        assert page.check() == ("2.W", explanation.largest("2.W"))
        page.choose("#row", 1)  # what the circles show
        assert page.check() == ("2.W", explanation.largest("2.W"))
        titles = page.browser.execute_script(
            "return [...document.querySelectorAll('#graph circle title')]"
            ".map((each) => each.textContent)")
        shown = {title.split(" = ")[0]: _number(re.search(r"= (\S+),", title)[1])
                 for title in titles}
        for node in explanation.nodes:
            for j, value in enumerate(node.value[1]):
                assert np.isclose(shown[f"{node.name}[{j}]"], value, rtol=1e-5)


def test_a_wide_network_is_folded(browser, tmp_path):
    rng = np.random.default_rng(0)
    net = fb.mlp([64, 64, 10], seed=0)
    explanation = fb.explain(net, rng.normal(size=64), 3, loss=fb.SoftmaxCrossEntropy())
    with opened(browser, explanation, tmp_path) as page:
        assert len(page.all("#map button")) == 64 * 64
        assert "and 56 more" in page.find("#graph").text
        for index in rng.integers(0, 64, (10, 2)).tolist():
            page.choose("#from", index[0])
            page.choose("#to", index[1])
            assert page.check() == ("0.W", tuple(index))


@pytest.mark.parametrize("width", [64, 300])
def test_columns_of_one_layer_show_the_same_units(browser, tmp_path, width):
    """Before and after the activation, on the page and in the picture."""
    rng = np.random.default_rng(0)
    net = fb.mlp([width, width, 10], "tanh", seed=0)
    explanation = fb.explain(net, rng.normal(size=width), 3, loss=fb.SoftmaxCrossEntropy())
    with opened(browser, explanation, tmp_path) as page:
        shown = page.browser.execute_script(
            "return JSON.parse(document.getElementById('data').textContent).nodes"
            ".map((node) => node.shown)")
        assert shown[1] == shown[2]
        drawn = {name: set() for name in ("z1", "a1")}
        for title in page.browser.execute_script(
                "return [...document.querySelectorAll('#graph circle title')]"
                ".map((each) => each.textContent)"):
            name, unit = re.match(r"(\w+)\[(\d+)\]", title).groups()
            drawn.setdefault(name, set()).add(unit)
        assert drawn["z1"] == drawn["a1"] and len(drawn["z1"]) == 8


def test_numbers_fit_into_circles(browser, tmp_path):
    net = fb.mlp([2, 3, 1], "relu", seed=1)
    explanation = fb.explain(net, [-1.2e5, 3.4e-7], -250000.0, loss=fb.MeanSquaredError())
    with opened(browser, explanation, tmp_path) as page:
        widths = page.browser.execute_script(
            "return [...document.querySelectorAll('#graph .value')]"
            ".map((each) => [each.textContent, each.getBBox().width])")
        assert [text for text, _ in widths[:2]] == ["−1.2e5", "3.4e−7"]
        assert len(widths) == 2 + 3 + 3 + 1 + 1 and max(width for _, width in widths) <= 36


def test_all_kinds_of_layers(browser, tmp_path):
    rng = np.random.default_rng(0)
    net = fb.Sequential([
        fb.Columns([(slice(0, 2), [fb.PeriodicEmbedding(2, 2)]), (2, fb.Embedding(4, 3))]),
        fb.Dense(7, 4), fb.Residual([fb.LayerNorm(4), fb.Dense(4, 4), fb.GELU(), fb.Dropout(0.5)]),
        fb.PReLU(4), fb.BatchNorm(4), fb.Repeat(4, 2), fb.EnsembleDense(4, 3, 2), fb.Sigmoid(),
        fb.SeparateDense(3, 2, 2), fb.MeanOfMembers(2, 2)], seed=0)
    X = np.column_stack([rng.normal(size=(3, 2)), [0, 3, 3]])
    explanation = fb.explain(net, X, [0, 1, 1], loss=fb.SoftmaxCrossEntropy())
    with opened(browser, explanation, tmp_path) as page:
        assert "dropout off" in page.find("#facts").text
        for p, name in enumerate(explanation.parameters):
            page.choose("#parameter", p)
            assert page.check() == (name, explanation.largest(name))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_schemes_and_narrow_screens(browser, tmp_path, scheme):
    """Nothing is wider than the screen, and text is readable on what is behind it."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        for width in (360, 1200):
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
                "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
            with opened(browser, example(), tmp_path):
                wide = browser.execute_script("return document.documentElement.scrollWidth")
                assert wide <= width
                colors = browser.execute_script(
                    "const of = (s, p) => getComputedStyle(document.querySelector(s))[p];"
                    "return [of('.card', 'backgroundColor'), of('h2', 'color'),"
                    "of('.hint', 'color'), of('.up', 'color'), of('.down', 'color')]")
                behind, *texts = map(_luminance, colors)
                assert (behind < 0.2) == (scheme == "dark")
                for text in texts:
                    high, low = max(text, behind), min(text, behind)
                    assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2, level AA
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def _luminance(color):
    """Relative luminance, as WCAG 2 defines it."""
    parts = np.array(re.findall(r"[\d.]+", color)[:3], float) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_what_assistive_technology_is_told(browser, tmp_path):
    with opened(browser, example(), tmp_path) as page:
        tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = {(node["role"]["value"], node.get("name", {}).get("value", ""))
                 for node in tree if not node["ignored"]}
        roles = {role for role, _ in named}
        assert {"main", "heading", "combobox", "button", "table"} <= roles
        for role in ("combobox", "button", "image"):
            assert all(name for each, name in named if each == role), role
        assert page.find("html").get_attribute("lang") == "en"
        headings = [each.text for each in page.all("h1, h2")]
        assert len(headings) == len(set(headings)) == 7
        # One square of the map is in the order of Tab, and it is the chosen one.
        (stop,) = [each for each in page.all("#map button")
                   if each.get_attribute("tabindex") == "0"]
        assert stop.get_attribute("aria-pressed") == "true"


def test_in_a_notebook(browser, tmp_path):
    """The frame works within a page that has a style of its own."""
    (tmp_path / "notebook.html").write_text(
        f"<!doctype html><meta charset=utf-8>{example()._repr_html_()}", encoding="utf-8")
    browser.get_log("browser")
    browser.get((tmp_path / "notebook.html").as_uri())
    browser.switch_to.frame(0)
    assert browser.find_element("id", "sum").text == browser.find_element("id", "engine").text
    assert browser.get_log("browser") == []
    browser.switch_to.default_content()


class Malicious(fb.Tanh):
    """A layer whose name would end a script, if it were not escaped."""


Malicious.__name__ = "</script><script>console.error(1)</script><b>{{data}}"


def test_text_is_no_markup(browser, tmp_path):
    net = fb.Sequential([fb.Dense(2, 2), Malicious(), fb.Dense(2, 1)], seed=0)
    explanation = fb.explain(net, [1.0, 2.0], 1.0, loss=fb.MeanSquaredError())
    with opened(browser, explanation, tmp_path) as page:
        assert Malicious.__name__ in page.find("h1").text
        page.check()


def test_the_page_needs_nothing_else(tmp_path):
    example().save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert set(re.findall(r"https?://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert text.count("</script>") == 2
