// SPDX-License-Identifier: GPL-2.0

//! Plots of the cost of composefs relative to erofs + overlayfs.

use std::path::Path;

use anyhow::Result;
use anyhow::anyhow;
use composefs_bench::ROWS;
use composefs_bench::Stack;
use composefs_bench::Unit;
use plotters::backend::SVGBackend;
use plotters::drawing::DrawingArea;
use plotters::drawing::IntoDrawingArea;
use plotters::element::PathElement;
use plotters::element::Rectangle;
use plotters::element::Text;
use plotters::style::Color;
use plotters::style::IntoFont;
use plotters::style::RGBColor;
use plotters::style::TextStyle;
use plotters::style::colors::WHITE;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;

use super::results::Results;

const OURS: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const EROFS: RGBColor = RGBColor(0xc8, 0xcd, 0xd3);
const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);

/// Pixels.
const WIDTH: i32 = 860;
const LEFT: i32 = 330;
const TOP: i32 = 60;
const PITCH: i32 = 24;
const BAR: i32 = 9;
/// The cost of erofs + overlayfs.
const ONE: i32 = 380;
/// Where longer bars are cut off. Their number is printed beside them.
const LONGEST: f64 = 1.15;

/// The cost of something, where erofs + overlayfs cost 1.
pub struct Bar {
    /// What was measured.
    pub title: &'static str,
    /// The cost on composefs.
    pub ours: f64,
    /// The cost on what the second legend names.
    pub other: Option<f64>,
}

/// Draws the rows that were measured on both.
///
/// # Errors
///
/// When the file cannot be written.
pub fn draw(results: &Results, path: &Path) -> Result<()> {
    let rows = ROWS.iter().filter(|row| row.unit != Unit::Time);
    let bars: Vec<Bar> = rows
        .filter_map(|row| {
            Some(Bar {
                title: row.title,
                ours: results.ratio(row.name, Stack::Overlay)?,
                other: results.quotient(row.name, Stack::Erofs, Stack::Overlay),
            })
        })
        .collect();
    draw_bars(&bars, "erofs alone, without content", path)
}

/// Draws bars, with the legend of their second half.
///
/// # Errors
///
/// When the file cannot be written.
pub fn draw_bars(bars: &[Bar], legend: &str, path: &Path) -> Result<()> {
    let height = TOP + PITCH * i32::try_from(bars.len())? + 20;
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let area = SVGBackend::new(path, size).into_drawing_area();
    let canvas = Canvas { area };
    canvas.area.fill(&WHITE).map_err(failed)?;
    canvas.text(
        "Cost of composefs, where erofs + overlayfs cost 1 (less is better)",
        (LEFT, 18),
        19,
        HPos::Left,
    )?;
    canvas.bar((LEFT, 36), 14, OURS)?;
    canvas.text("composefs", (LEFT + 20, 40), 15, HPos::Left)?;
    canvas.bar((LEFT + 110, 36), 14, EROFS)?;
    canvas.text(legend, (LEFT + 130, 40), 15, HPos::Left)?;

    for (number, bar) in (0..).zip(bars) {
        let y = TOP + PITCH * number;
        canvas.text(bar.title, (LEFT - 10, y + BAR), 15, HPos::Right)?;
        let width = length(bar.ours);
        canvas.bar((LEFT, y), width, OURS)?;
        canvas.text(
            &format!("{:.2}", bar.ours),
            (LEFT + width + 6, y + 5),
            14,
            HPos::Left,
        )?;
        if let Some(other) = bar.other {
            canvas.bar((LEFT, y + BAR), length(other), EROFS)?;
        }
    }
    canvas.line((LEFT + ONE, TOP - 4), (LEFT + ONE, height - 16))?;
    canvas.area.present().map_err(failed)
}

fn length(ratio: f64) -> i32 {
    (ratio.min(LONGEST) * f64::from(ONE)) as i32
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the plot: {error}")
}

/// The drawing area.
struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
}

impl Canvas<'_> {
    fn text(&self, text: &str, at: (i32, i32), size: i32, side: HPos) -> Result<()> {
        let style = TextStyle::from(("sans-serif", size).into_font())
            .color(&INK)
            .pos(Pos::new(side, VPos::Center));
        self.area.draw(&Text::new(text, at, style)).map_err(failed)
    }

    fn bar(&self, (x, y): (i32, i32), width: i32, color: RGBColor) -> Result<()> {
        let corners = [(x, y), (x + width, y + BAR)];
        let bar = Rectangle::new(corners, color.filled());
        self.area.draw(&bar).map_err(failed)
    }

    fn line(&self, from: (i32, i32), to: (i32, i32)) -> Result<()> {
        let line = PathElement::new([from, to], INK.stroke_width(1));
        self.area.draw(&line).map_err(failed)
    }
}
