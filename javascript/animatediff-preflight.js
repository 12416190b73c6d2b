// The lines under Enable AnimateDiff, and its tick in the accordion's header.
//
// What a run will do depends on the checkpoint too: the lines are made anew, by a hidden button of each tab, once the
// page knows the host's options and whenever those have changed. gradio 3 says nothing of a number that is emptied, of
// a slider that is moved by keys and of a prompt that is still being written: another hidden button is for those.
(function() {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const PAUSE = 300; // ms; several changes in a row are one
    const NAME = "Enable AnimateDiff";
    const HELP = "Make clips instead of pictures.";
    const WRITTEN = "input[type=number], input[type=range], textarea";
    const due = {};

    const find = (id) => gradioApp().getElementById(id);
    const inLanguage = (text) => (window.localization && window.localization[text]) || text;

    function press(tab, name) {
        clearTimeout(due[tab + name]);
        due[tab + name] = setTimeout(() => find(`${tab}-ad-${name}`)?.click(), PAUSE);
    }

    function follow(tab) {
        find(`tab_${tab}`)?.addEventListener("input", (event) => {
            if (!event.target.matches(WRITTEN)) return;
            // Told apart from what is true by its look, until the answer replaces it.
            find(`${tab}-ad`)?.querySelector(".ad-preflight[data-number]")?.classList.add("ad-old");
            press(tab, "renew");
        });
    }

    /** New lines have the same schedules open as those before. */
    function keepOpen(tab) {
        const lines = find(`${tab}-ad-preflight`);
        const open = new Set();
        lines?.addEventListener("toggle", (event) => {
            const name = event.target.querySelector("summary").textContent;
            if (event.target.open) open.add(name);
            else if (event.target.isConnected) open.delete(name);
        }, true);
        new MutationObserver(() => {
            for (const schedule of lines.querySelectorAll(".ad-schedule")) {
                if (open.has(schedule.querySelector("summary").textContent)) schedule.open = true;
            }
        }).observe(lines, {childList: true, subtree: true});
    }

    function nameTick(tab) {
        const tick = find(`${tab}-ad-visible-checkbox`);
        if (!tick) return;
        tick.setAttribute("aria-label", inLanguage(NAME));
        tick.title = inLanguage(HELP);
    }

    onUiLoaded(() => {
        TABS.forEach(follow);
        TABS.filter((tab) => find(`${tab}-ad-preflight`)).forEach(keepOpen);
        setTimeout(() => TABS.forEach(nameTick)); // when the host has made the tick
    });
    onOptionsChanged(() => TABS.forEach((tab) => press(tab, "update")));
})();
