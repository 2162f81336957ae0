// Changes a name in VS Code under a headless Chromium and takes the next edits by Tab; prints what
// was shown.
// node vscode_edits.mjs PLAYWRIGHT CHROMIUM URL SCREENSHOT

const [, , playwright, executablePath, url, screenshot] = process.argv;
const { chromium } = await import(playwright);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
  ],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 650 } });

// The texts that decorations insert; they are styles, not text of the page.
const inserted = () =>
  page.evaluate(() =>
    [...document.querySelectorAll(".monaco-editor .view-line span")]
      .map((one) => getComputedStyle(one, "::after").content)
      .filter((content) => content !== "none" && content !== "normal")
      .map((content) => content.replace(/^"|"$/g, "").replace(/\u00a0/g, " ")),
  );
const until = async (holds) => {
  for (let i = 0; i < 600; i += 1) {
    const found = await inserted();
    if (holds(found)) {
      return found;
    }
    await page.waitForTimeout(100);
  }
  throw new Error(`not shown; there is ${JSON.stringify(await inserted())}`);
};
const text = async () =>
  (await page.locator(".monaco-editor .view-lines").first().innerText()).replace(/\u00a0/g, " ");

try {
  await page.goto(url, { timeout: 120000 });
  await page.getByText("main.py").first().dblclick({ timeout: 120000 });
  const lines = page.locator(".monaco-editor .view-lines").first();
  await lines.waitFor({ timeout: 120000 });
  await page
    .locator('.statusbar-item[aria-label*="is ready"], .statusbar-item[aria-label*="codegen"]')
    .first()
    .waitFor({ timeout: 120000 });
  await page.waitForTimeout(15000);
  await lines.click();
  await page.keyboard.press("Control+Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Home");
  for (let i = 0; i < 4; i += 1) {
    await page.keyboard.press("Shift+ArrowRight");
  }
  await page.keyboard.type("sum_");
  const found = { far: await until((shown) => shown.includes("sum_")) };
  await page.screenshot({ path: screenshot });
  const before = await text();
  await page.keyboard.press("Tab"); // there
  found.jumped = await until((shown) => shown.every((one) => !one.includes("next edit")));
  found.untouched = (await text()) === before;
  await page.keyboard.press("Tab"); // and applied
  await until((shown) => !shown.length);
  found.second = await until((shown) => shown.includes("sum_"));
  await page.keyboard.press("Tab");
  await until((shown) => !shown.length);
  await page.waitForTimeout(1000);
  await page.keyboard.press("Control+S");
  await page.waitForTimeout(2000);
  console.log(JSON.stringify(found));
} catch (error) {
  await page.screenshot({ path: screenshot });
  console.log(JSON.stringify({ error: String(error) }));
} finally {
  await browser.close();
}
